# Create the manager with the files of $MANAGER_CONFIG, if there is none. The script of hive-manager.service.
set -euo pipefail

last_proposal() {
  hive-c0re proposals --agent hm1nd --state all --limit 1 --json | jq '.proposals[0].number // -1'
}

agents=$(hive-c0re list --json)
if jq --exit-status '.agents | any(.name == "hm1nd")' <<<"$agents" >/dev/null; then
  echo "there is a manager already"
  exit
fi

before=$(last_proposal)
if hive-c0re spawn hm1nd --config-dir "$MANAGER_CONFIG" --no-wait; then
  exit
fi
after=$(last_proposal)
if [ "$after" = "$before" ]; then
  echo "The spawn was refused before anything was built. It is tried again." >&2
  exit 1
fi
cat >&2 <<END
The manager was not created: the spawn hm1nd/$after has failed. So that no more of them are recorded, it is not tried
again before the next boot or "nixos-rebuild switch".
See why: hive-c0re proposals show hm1nd $after
If it needs fetches from the network for the CLI of its backend, name the backend in services.hyperhive.agents.backends
and run "nixos-rebuild switch". For other fetches: hive-c0re proposals allow-fetches hm1nd $after
To try again at once: systemctl start hive-manager.service
END
exit 78
