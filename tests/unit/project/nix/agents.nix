# Agents as people write them, in agents/: each attribute is one, or what its evaluation ends with.
{ nixpkgs, root }:

let
  inherit (import ./project.nix { inherit nixpkgs root; }) self flake;
  inherit (flake) lib;

  config =
    directory:
    (self.lib.agentSystem {
      system = "x86_64-linux";
      name = "ada";
      kind = "agent";
      agent = directory;
    }).config;
  # A package is refused when its derivation is asked for, not when it is named.
  programs =
    system:
    lib.listToAttrs (
      map (package: lib.nameValuePair (lib.getName package) package.drvPath) system.environment.systemPackages
    );
  settings = system: system.environment.etc."nix/nix.conf".source.text;
in
{
  unfree = programs (config ./agents/unfree);
  refused = programs (config ./agents/refused);
  forced = programs (config ./agents/forced);
  unknown = programs (config ./agents/unknown);
  feature-string = settings (config ./agents/feature-string);
  feature-list = settings (config ./agents/feature-list);
  imports =
    let
      system = config ./agents/imports;
    in
    {
      failed = map (one: one.message) (lib.filter (one: !one.assertion) system.assertions);
      inherit (system) warnings;
      programs = programs system;
      user = { inherit (system.users.users.notes) group isSystemUser home; };
      unit = { inherit (system.systemd.services.notes) serviceConfig wantedBy; };
      postgresql = system.systemd.services ? postgresql;
      greeting = system.systemd.services.hive-harness.environment.GREETING;
      toplevel = system.system.build.toplevel.drvPath;
    };
}
