"""Files by SFTP: trees copied, a shell, and a folder that nothing leads out of."""
