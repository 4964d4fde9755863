"""The ground every room stands on: settings, errors, logging, clock and deadlines. Imports no other room."""
