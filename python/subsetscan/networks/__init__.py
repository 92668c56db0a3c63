"""Networks: how a framework's tensors are named and read. Nothing else in the package knows a framework."""
