"""Fault injection: no acknowledged sample is lost when processes die, hang, fill up or resend."""
