"""What any service needs: files, logs, encryption, text, HTTP. Nothing here knows trading."""
