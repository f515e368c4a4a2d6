"""Runs whole cycles in the fork server before it forks, so that its children share the loaded pages."""
