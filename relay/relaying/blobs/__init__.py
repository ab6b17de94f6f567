"""Blob transactions: verified in a process of their own, held within a budget, served in every form."""
