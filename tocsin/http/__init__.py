"""What a running tocsin tells over HTTP."""
