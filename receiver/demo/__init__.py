"""What `receiver demo` needs besides the receiver: applications to scrape, and a sender."""
