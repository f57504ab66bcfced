"""Models made smaller and faster without being made worse; each verb is an island."""
