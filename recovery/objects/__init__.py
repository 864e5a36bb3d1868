"""Views, triggers, routines and events: what they were at a target, and the files that create them again."""
