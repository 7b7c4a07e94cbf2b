"""The tests: real parts over loopback; doubles only at the outer edge (`hub.testing`)."""
