"""The pages and the TypeScript client in a real browser, against a real demo. `make test-browser`; needs Chromium."""
