"""Results to what people read: the leaderboard-style table."""
