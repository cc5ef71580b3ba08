"""What clients send and get, as the API's description tells it."""
