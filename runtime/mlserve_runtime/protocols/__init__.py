"""The languages in which predictions are asked for; each turns bytes into raw tensors and results into bytes."""
