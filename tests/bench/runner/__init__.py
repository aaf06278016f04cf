"""What tests/bench/run is made of. tests/bench/README.md says what is measured and how."""
