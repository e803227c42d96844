"""Fitted heads in folders: written whole, described, loaded without running their code."""
