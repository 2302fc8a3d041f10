"""A cohort of objective `latency`, played by the deployed services: does the formula's latency come out?"""
