"""Between coordinator and workers: sessions over gRPC streams, and TLS."""
