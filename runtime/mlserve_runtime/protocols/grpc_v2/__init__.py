"""Open Inference Protocol V2 over gRPC: messages (messages), tensors (codec) and the service itself (service)."""
