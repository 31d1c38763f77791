"""Talks to other servers, and replays what they sent."""
