"""The HTTPS portal: files, listings and pages over HTTP/1.1."""
