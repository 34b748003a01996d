"""The job service: REST in front of a coordinator, and the process that holds both."""
