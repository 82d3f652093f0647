"""The language of Handrail: messages, plans, the view reducer. No IO."""
