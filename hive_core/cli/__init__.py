"""The command line `hive-c0re`: the start of the daemon, and the operator's requests to a running one.

This module imports click and nothing heavier; each command is a module of its own, loaded when it runs.
"""

from __future__ import annotations

import os

import click

from hive_core import __version__
from hive_core.cli.lazy import Lazy, LazyGroup

PROGRAM = "hive-c0re"

COMMANDS = {
    "serve": Lazy("hive_core.cli.commands.host.host:serve", "Run the daemon in the foreground."),
    "egress": Lazy(
        "hive_core.cli.commands.host.egress:egress",
        "Run the proxy through which sealed agents reach what their rules allow.",
    ),
    "relay": Lazy(
        "hive_core.cli.commands.host.relay:relay",
        "Run the relay in the foreground: the process with the vendors' keys.",
    ),
    "dashboard": Lazy("hive_core.cli.commands.host.dashboard:dashboard", "Serve the hive's web pages."),
    "status": Lazy("hive_core.cli.commands.host.monitoring:status", "Show a summary of the daemon and its hive."),
    "spawn": Lazy("hive_core.cli.commands.agents.spawn:spawn", "Create an agent and wait until it is ready."),
    "list": Lazy("hive_core.cli.commands.agents.lifecycle:list_agents", "List all agents, the manager first."),
    "show": Lazy(
        "hive_core.cli.commands.agents.lifecycle:show", "Show one agent: its process, its harness, and what it lacks."
    ),
    "start": Lazy("hive_core.cli.commands.agents.lifecycle:start", "Start agents that are stopped."),
    "stop": Lazy("hive_core.cli.commands.agents.lifecycle:stop", "Stop agents; their messages wait for them."),
    "restart": Lazy("hive_core.cli.commands.agents.lifecycle:restart", "Stop agents and start them again."),
    "owner": Lazy("hive_core.cli.commands.agents.owner:owner", "Show or change the person to whom an agent belongs."),
    "limits": Lazy("hive_core.cli.commands.agents.limits:limits", "Show or change an agent's resource limits."),
    "secret": Lazy(
        "hive_core.cli.commands.agents.secrets:secret", "Give secrets to agents, list them, and take them away."
    ),
    "net": Lazy(
        "hive_core.cli.commands.outside.network:net", "Show and change what agents reach, and decide on requests."
    ),
    "usage": Lazy("hive_core.cli.commands.outside.spending:usage", "Show what agents have spent on models."),
    "budget": Lazy(
        "hive_core.cli.commands.outside.spending:budget", "Show what agents may spend and what is left, or add money."
    ),
    "destroy": Lazy(
        "hive_core.cli.commands.agents.lifecycle:destroy", "Remove agents; their state is kept unless purged."
    ),
    "shell": Lazy("hive_core.cli.commands.access.run:shell", "Open a shell in an agent, as its root user."),
    "exec": Lazy("hive_core.cli.commands.access.run:execute", "Run a command in an agent, as its root user."),
    "cp": Lazy("hive_core.cli.commands.access.files:cp", "Copy files into an agent or out of it."),
    "port-forward": Lazy(
        "hive_core.cli.commands.access.ports:port_forward", "Reach a port of an agent from this host."
    ),
    "programs": Lazy(
        "hive_core.cli.commands.access.programs:programs",
        "List an agent's long-running programs, show their output or stop them.",
    ),
    "ssh-config": Lazy("hive_core.cli.commands.access.ssh:ssh_config", "Print what to add to ~/.ssh/config."),
    "ssh-proxy": Lazy("hive_core.cli.commands.access.ssh:ssh_proxy", "Speak SSH for an agent on stdin and stdout."),
    "diff": Lazy(
        "hive_core.cli.commands.access.repositories:diff", "Show what an agent has changed in its working tree."
    ),
    "fetch": Lazy(
        "hive_core.cli.commands.access.repositories:fetch", "Fetch an agent's branches into a repository of yours."
    ),
    "run": Lazy("hive_core.cli.commands.steering.run:run", "Have an agent work in a repository, and show it."),
    "transcript": Lazy(
        "hive_core.cli.commands.steering.transcript:transcript", "Show a turn: what the model said and did."
    ),
    "cancel": Lazy("hive_core.cli.commands.steering.controls:cancel", "Stop the turn that an agent is at."),
    "retry": Lazy("hive_core.cli.commands.steering.controls:retry", "Try a held or waiting turn again now."),
    "skip": Lazy("hive_core.cli.commands.steering.controls:skip", "Give a held or waiting turn up."),
    "pause": Lazy("hive_core.cli.commands.steering.controls:pause", "Let an agent begin no turn until it is resumed."),
    "resume": Lazy("hive_core.cli.commands.steering.controls:resume", "Let a paused agent begin turns again."),
    "model": Lazy("hive_core.cli.commands.steering.controls:model", "Show or choose the model of an agent."),
    "compact": Lazy("hive_core.cli.commands.steering.controls:compact", "Compact an agent's conversation."),
    "new-session": Lazy("hive_core.cli.commands.steering.controls:new_session", "Begin a new conversation."),
    "login": Lazy("hive_core.cli.commands.steering.controls:login", "Log an agent's program in to its service."),
    "queue": Lazy("hive_core.cli.commands.steering.queue:queue", "Show and change the messages that wait."),
    "proposals": Lazy("hive_core.cli.commands.gate.proposals:proposals", "List and inspect proposals."),
    "edit": Lazy("hive_core.cli.commands.gate.edit:edit", "Change an agent's configuration in your editor."),
    "propose": Lazy("hive_core.cli.commands.gate.decisions:propose", "Propose a commit of an agent's configuration."),
    "approve": Lazy(
        "hive_core.cli.commands.gate.decisions:approve", "Approve a proposal and wait until it is deployed."
    ),
    "deny": Lazy("hive_core.cli.commands.gate.decisions:deny", "Deny a proposal, with a reason."),
    "withdraw": Lazy("hive_core.cli.commands.gate.decisions:withdraw", "Withdraw your own proposal."),
    "rollback": Lazy(
        "hive_core.cli.commands.gate.deployments:rollback", "Deploy an earlier deployment of an agent again."
    ),
    "rebuild": Lazy(
        "hive_core.cli.commands.gate.deployments:rebuild", "Rebuild agents with the current hyperhive and deploy them."
    ),
    "work": Lazy("hive_core.cli.commands.work.proposals:work", "Review and land the work of agents."),
    "history": Lazy(
        "hive_core.cli.commands.gate.deployments:history", "Show the deployments of an agent, the newest first."
    ),
    "repo": Lazy(
        "hive_core.cli.commands.work.repositories:repo",
        "Register, fetch and show the repositories that agents work on.",
    ),
    "send": Lazy("hive_core.cli.commands.messaging.messages:send", "Send a message to an agent, or to all with '*'."),
    "ask": Lazy("hive_core.cli.commands.messaging.messages:ask", "Send a message and wait for the answer."),
    "inbox": Lazy(
        "hive_core.cli.commands.messaging.messages:inbox", "Show the unread messages to you, and mark them read."
    ),
    "questions": Lazy(
        "hive_core.cli.commands.messaging.questions:questions", "Show the agents' open questions to you."
    ),
    "answer": Lazy("hive_core.cli.commands.messaging.questions:answer", "Answer an agent's question."),
    "reminders": Lazy("hive_core.cli.commands.messaging.questions:reminders", "Show the agents' pending reminders."),
    "open": Lazy("hive_core.cli.commands.host.monitoring:open_page", "Open an agent's page, or print a link to it."),
    "watch": Lazy("hive_core.cli.commands.steering.watch:watch", "Show live what happens, and what models say."),
    "logs": Lazy("hive_core.cli.commands.host.monitoring:logs", "Show the log of an agent."),
    "operator": Lazy(
        "hive_core.cli.commands.people.accounts:operator",
        "Manage the accounts of people, who use the hive through the dashboard.",
    ),
    "audit": Lazy("hive_core.cli.commands.host.monitoring:audit", "Show and verify the audit log."),
    "doctor": Lazy("hive_core.cli.commands.host.host:doctor", "Check this host for missing or wrong parts."),
    "backup": Lazy("hive_core.cli.commands.host.backup:backup", "Write a backup of the hive to a file."),
    "restore": Lazy("hive_core.cli.commands.host.backup:restore", "Restore a hive from a backup."),
    "check-config": Lazy("hive_core.cli.commands.host.host:check_config", "Check a settings file as the daemon does."),
    "completion": Lazy("hive_core.cli.commands.host.host:completion", "Print the script for shell completion."),
}

ALIASES = {"ls": "list", "ps": "list", "rm": "destroy"}
"""Names of other programs for the same commands."""

SECTIONS = {
    "Agents": (
        *("spawn", "list", "show", "start", "stop", "restart", "destroy"),
        *("owner", "limits", "secret", "net", "usage", "budget"),
    ),
    "Steering": (
        *("run", "transcript", "cancel", "retry", "skip", "pause", "resume", "queue"),
        *("model", "compact", "new-session", "login", "watch", "open"),
    ),
    "Messages": ("send", "ask", "inbox", "questions", "answer", "reminders"),
    "Work": ("repo", "work", "diff", "fetch"),
    "Configuration": (
        *("edit", "propose", "proposals", "approve", "deny", "withdraw", "rollback", "rebuild", "history"),
    ),
    "A way in": ("shell", "exec", "cp", "port-forward", "programs", "ssh-config", "ssh-proxy"),
    "Host": (
        *(
            "serve",
            "egress",
            "relay",
            "dashboard",
            "status",
            "operator",
            "logs",
            "audit",
            "doctor",
            "backup",
            "restore",
            "check-config",
            "completion",
        ),
    ),
}
"""The commands in the order of the help."""

EPILOG = """
\b
Exit codes:
  0    done
  1    refused or failed; stderr says why and what to do
  2    wrong usage
  3    no daemon is listening on the socket
  4    ask: no answer came in time
  130  interrupted with Ctrl-C

\b
The socket is the first of: --socket, HIVE_SOCKET, host.sock in the run
directory of the daemon's settings (HIVE_RUN_DIR, HIVE_STATE_DIR or
/etc/hyperhive/config.toml), /run/hyperhive/host.sock.

With --json, stdout is exactly the daemon's answer (watch and logs -f: one
JSON document a line) and an error is one JSON document on stderr.
"""


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    aliases=ALIASES,
    sections={title: found for title, names in SECTIONS.items() if (found := [n for n in names if n in COMMANDS])},
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--socket", metavar="PATH", help="Socket of the daemon.")
@click.version_option(__version__, prog_name=PROGRAM)
@click.pass_context
def main(ctx: click.Context, socket: str | None) -> None:
    """Run a hive: agents in containers of their own, and the messages between them."""
    ctx.obj = socket
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False
