"""What meets the Hub: license rules, cards, loading and publishing."""
