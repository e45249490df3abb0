"""`tocsin doctor`: examines a broker with throw-away topics and sessions, and says which settings to change."""
