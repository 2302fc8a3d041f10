"""Solvers of DiP-SD's problem: the paper's, exact ones, and ours."""
