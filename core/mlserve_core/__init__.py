"""What operator, runtime and command line share: pure, without any framework, client or torch."""
