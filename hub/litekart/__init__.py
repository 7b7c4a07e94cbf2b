"""The store's REST API, and the hour's budget of requests that all who call it share."""
