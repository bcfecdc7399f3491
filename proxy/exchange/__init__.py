"""One HTTP exchange: the client's connection, a request on its way to an endpoint, the answer on its way back."""
