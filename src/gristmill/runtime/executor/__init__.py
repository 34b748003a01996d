"""What runs inside an executor, beside user code."""
