"""From bytes to an authenticated, validated signal."""
