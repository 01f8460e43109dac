"""The SSH portal: SFTP version 3 and the old SCP protocol over one login."""
