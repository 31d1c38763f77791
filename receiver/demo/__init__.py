"""Parts of `receiver demo`: sample applications and senders."""
