"""The S3 portal."""
