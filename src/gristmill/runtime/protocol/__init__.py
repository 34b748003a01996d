"""What agents and a coordinator say to each other. ``agents.proto`` defines and explains it."""

ATTEND = "/gristmill.agents.Agents/Attend"
