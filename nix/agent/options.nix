# `hyperhive.*`: what an agent's own agent.nix may set beside everything that NixOS has.
# docs/nixos.md explains every option; a test holds the two together.
{
  config,
  lib,
  options,
  pkgs,
  hive,
  ...
}:

let
  inherit (lib) literalExpression mkOption types;
  cfg = config.hyperhive;

  # What drives the agent is said in its agent.toml, and is not to be said again here.
  toml = hive.agent + "/agent.toml";
  backend =
    if builtins.pathExists toml then (builtins.fromTOML (builtins.readFile toml)).backend or "" else "";
  inherit (import ./backends.nix { inherit pkgs; }) programs unfree;

  # nixpkgs takes a single predicate, and of several definitions keeps one without a word
  # (https://github.com/NixOS/nixpkgs/issues/197325). So this one asks those of an agent.nix, too, and is put last,
  # where the merge prefers it.
  ownPredicate =
    package:
    lib.elem (lib.getName package) (cfg.unfreePackages ++ lib.optional (unfree ? ${backend}) unfree.${backend});
  otherPredicates = lib.concatMap (
    { file, value, ... }:
    let
      settings = if lib.isFunction value then value { inherit pkgs; } else value;
      predicate = settings.allowUnfreePredicate or null;
    in
    if toString file == toString ./options.nix || predicate == null then
      [ ]
    else if !lib.isFunction predicate then
      throw "nixpkgs.config.allowUnfreePredicate in ${toString file} has to be a function of a package."
    else
      [ predicate ]
  ) options.nixpkgs.config.definitionsWithLocations;

  server = {
    options = {
      command = mkOption {
        type = types.str;
        example = literalExpression ''lib.getExe pkgs.mcp-server-fetch'';
        description = "Program that serves tools on its standard input and output.";
      };
      args = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "Its arguments.";
      };
      env = mkOption {
        type = types.attrsOf types.str;
        default = { };
        description = "Its environment. Everybody on the host can read it: no keys here.";
      };
    };
  };
in
{
  options.hyperhive = {
    name = mkOption {
      type = types.str;
      readOnly = true;
      default = hive.name;
      defaultText = lib.literalMD "the agent's name";
      description = "The agent's name. Cannot be set.";
    };

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ../package.nix { };
      defaultText = literalExpression "pkgs.callPackage \"\${hyperhive}/nix/package.nix\" { }";
      description = "The package that the harness comes from.";
    };

    packages = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = literalExpression "[ pkgs.ripgrep pkgs.python3 ]";
      description = "Programs for the agent, beside those that every agent has.";
    };

    environment = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = {
        EDITOR = "vim";
      };
      description = ''
        Variables for the harness and for every turn. What the hive itself sets wins. Everybody on the host can read
        them: no keys here.
      '';
    };

    mcpServers = mkOption {
      type = types.attrsOf (types.submodule server);
      default = { };
      example = literalExpression "{ fetch.command = lib.getExe pkgs.mcp-server-fetch; }";
      description = ''
        MCP servers whose tools the agent gets beside the hive's. The name `hive` is taken. A backend that is no model
        (`scripted`) has no use for them.
      '';
    };

    backend.package = mkOption {
      type = types.nullOr types.package;
      default = programs.${backend} or null;
      defaultText = lib.literalMD "what nixpkgs has for the `backend` of `agent.toml`";
      example = literalExpression "pkgs.codex";
      description = ''
        The agent CLI that drives the agent; null if none does. Claude Code is not free software; it is allowed for an
        agent whose backend it is.
      '';
    };

    unfreePackages = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "vault" ];
      description = "Names of packages that may be installed although they are not free software.";
    };
  };

  config = {
    assertions = [
      {
        assertion = !(cfg.mcpServers ? hive);
        message = "hyperhive.mcpServers.hive: that name is the hive's own server; choose another.";
      }
      {
        assertion = lib.all (name: builtins.match "[A-Za-z0-9_-]{1,64}" name != null) (lib.attrNames cfg.mcpServers);
        message = "hyperhive.mcpServers: names are 1 to 64 letters, digits, _ and -; they become part of tools' names.";
      }
    ];
    nixpkgs.config = lib.mkAfter {
      allowUnfreePredicate = package: lib.any (allows: allows package) ([ ownPredicate ] ++ otherPredicates);
    };
  };
}
