"""The console: pages in the browser. NiceGUI is imported here only, and only when a page is asked for."""
