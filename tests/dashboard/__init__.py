"""The dashboard's pages, over real HTTP."""
