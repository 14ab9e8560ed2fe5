# What `lib.agentSystem` of hyperhive's flake promises, with the tests' host in the place of nixpkgs: an agent.nix is
# really evaluated and checked, as a module of a few options, and its system is really built, in Nix's sandbox, by
# programs from the store. Containers see the host's /usr; a package is a script that runs a program there.
{ recipe, programs }:
{
  system,
  name,
  kind,
  agent,
}:
let
  inherit (builtins)
    attrNames
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    genList
    getAttr
    isAttrs
    isFunction
    isList
    isString
    length
    listToAttrs
    mapAttrs
    match
    toJSON
    ;

  # --- packages and lib, as far as an agent.nix of the tests asks for them ---

  # A sandbox shows only the store, so the programs are run with the loader and the libraries beside them.
  load = [
    "${programs}/lib/loader"
    "--library-path"
    "${programs}/lib"
  ];
  commands = concatStringsSep "" (
    map (command: ''${command}() { ${toString load} ${programs}/bin/${command} "$@"; }
    '') (attrNames (builtins.readDir "${programs}/bin"))
  );

  build =
    attributes: script:
    derivation (
      {
        inherit system;
        builder = builtins.head load;
        args = builtins.tail load ++ [
          "${programs}/bin/bash"
          "-euc"
          "${commands}${script}"
        ];
      }
      // attributes
    );

  package =
    pname: version:
    build { name = "${pname}-${version}"; } ''
      mkdir -p $out/bin
      printf '#!/bin/sh\nexec /usr/bin/${pname} "$@"\n' >$out/bin/${pname}
      chmod +x $out/bin/${pname}
    '';

  pkgs = {
    git = package "git" "2.50";
    jq = package "jq" "1.8";
    ripgrep = package "ripgrep" "14.1";
    runCommand =
      title: attributes:
      build ({ name = title; } // attributes);
    writeShellScript =
      title: text:
      build {
        name = title;
        inherit text;
      } ''printf '#!/bin/sh\n%s\n' "$text" >$out; chmod +x $out'';
  };

  lib = {
    mkForce = value: value;
    mkDefault = value: value;
    optional = condition: value: if condition then [ value ] else [ ];
  };

  # --- the configuration: values by option, each checked ---

  fail = text: throw "error in agent.nix of ${name}: ${text}";

  listOf = ok: value: isList value && foldl' (all: one: all && ok one) true value;
  isPackage = value: isAttrs value && value.type or "" == "derivation";
  isText = value: isString value || builtins.isInt value;
  textsBelow = value: isAttrs value && listOf isText (map (key: value.${key}) (attrNames value));

  options = {
    "environment.systemPackages" = listOf isPackage;
    "hyperhive.packages" = listOf isPackage;
    "hyperhive.environment" = textsBelow;
    "hyperhive.mcpServers" = value: isAttrs value && !(value ? hive);
    "systemd.services" = isAttrs;
  };

  valueOf =
    option: fallback:
    let
      path = match "([^.]+)[.]([^.]+)" option;
      group = module.${elemAt path 0} or { };
      value = group.${elemAt path 1} or fallback;
    in
    if options.${option} value then value else fail "a definition for option `${option}' is not of its type";

  file = import "${agent}/agent.nix";
  module = if isFunction file then file { inherit config hive lib pkgs; } else file;

  # What an agent.nix is told of its own system, as nix/agent-system.nix and nix/agent/base.nix have it.
  hive = {
    inherit name recipe;
    agent = "${agent}";
    container = if kind == "manager" then name else "h-${name}";
    program = if kind == "manager" then "hive-m1nd" else "hive-ag3nt";
  };
  config.environment.etc = listToAttrs (
    map (file: {
      name = "hyperhive/${file}";
      value.text = etcFiles."etc/hyperhive/${file}";
    }) [ "mcp.json" "recipe" ]
  );

  unknown = concatMap (
    group:
    if !(isAttrs module.${group}) then
      [ group ]
    else
      filter (option: !(options ? ${option})) (map (key: "${group}.${key}") (attrNames module.${group}))
  ) (attrNames module);

  checked =
    if unknown == [ ] then true else fail "The option `${builtins.head unknown}' does not exist";

  packages = valueOf "environment.systemPackages" [ ] ++ valueOf "hyperhive.packages" [ ];

  # --- units ---

  # As nix/agent/harness.nix has it.
  harness = {
    description = "the harness of ${name}";
    wantedBy = [ "multi-user.target" ];
    environment = {
      HOME = "/root";
      LANG = "C.UTF-8";
      HIVE_AGENT_MCP = "/etc/hyperhive/mcp.json";
      PATH = "/run/current-system/sw/bin:/usr/local/bin:/usr/bin:/usr/sbin";
      HIVE_ACCESS_UNIT = "hive-access.service";
    }
    // valueOf "hyperhive.environment" { };
    serviceConfig = {
      Type = "exec";
      ExecStart = "/usr/local/bin/${if kind == "manager" then "hive-m1nd" else "hive-ag3nt"} serve";
      EnvironmentFile = "/run/hive/environment";
      WorkingDirectory = "/state";
      Restart = "always";
      RestartSec = 1;
      KillMode = "mixed";
      TimeoutStopSec = 20;
      StandardOutput = "journal+console";
      StandardError = "journal+console";
    };
  };

  access = {
    description = "sessions in ${name}";
    inherit (harness) environment;
    serviceConfig = {
      Type = "exec";
      ExecStart = "/usr/local/bin/${if kind == "manager" then "hive-m1nd" else "hive-ag3nt"} access";
      EnvironmentFile = "/run/hive/environment";
      TimeoutStopSec = 10;
    };
  };

  given = valueOf "systemd.services" { };
  services =
    given
    // {
      hive-access = access;
      hive-harness =
        let
          more = given.hive-harness or { };
        in
        harness
        // more
        // {
          environment = harness.environment // more.environment or { };
          serviceConfig = harness.serviceConfig // more.serviceConfig or { };
        };
    };

  section = title: lines: "[${title}]\n" + concatStringsSep "" (map (line: "${line}\n") lines);
  quoted = key: value: "Environment=${toJSON "${key}=${toString value}"}";

  unitText =
    title: unit:
    let
      known = [
        "description"
        "enable"
        "environment"
        "script"
        "serviceConfig"
        "wantedBy"
      ];
      wrong = filter (key: !(elem key known)) (attrNames unit);
      script = if unit ? script then [ "ExecStart=${pkgs.writeShellScript title unit.script}" ] else [ ];
      environment = unit.environment or { };
      settings = unit.serviceConfig or { };
    in
    if match "[A-Za-z0-9:_.@-]+" title == null || wrong != [ ] then
      fail "The option `systemd.services.${title}.${toString wrong}' does not exist"
    else
      section "Unit" [
        "Description=${unit.description or title}"
        "StartLimitIntervalSec=0"
      ]
      + section "Service" (
        map (key: quoted key environment.${key}) (attrNames environment)
        ++ script
        ++ map (key: "${key}=${toString settings.${key}}") (attrNames settings)
      );

  enabled = filter (title: services.${title}.enable or true) (attrNames services);
  wanted = filter (title: services.${title}.wantedBy or [ ] != [ ]) enabled;

  # Not the machine's own target: that would start whatever is installed there.
  target = section "Unit" [
    "Description=A container of the tests"
    "Requires=basic.target"
    "After=basic.target"
    "Wants=hive-access.path ${concatStringsSep " " (map (title: "${title}.service") wanted)}"
    "AllowIsolate=yes"
  ];

  # --- the system ---

  out = placeholder "out";

  init = ''
    #!/bin/sh
    # Run by the container's first program: lay out /etc, and become systemd.
    rm -rf /etc/systemd/system /etc/hyperhive
    mkdir -p /etc/systemd /etc/pam.d
    ln -s ${out}/etc/systemd/system /etc/systemd/system
    ln -s ${out}/etc/hyperhive /etc/hyperhive
    ln -sfn ${out} /run/current-system
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n' >/etc/passwd
    printf 'root:x:0:\ntty:x:5:\nnogroup:x:65534:\n' >/etc/group
    for service in su su-l; do
      printf '%s\n' 'auth sufficient pam_rootok.so' 'account required pam_permit.so' 'session required pam_permit.so' \
        >/etc/pam.d/$service
    done
    exec /lib/systemd/systemd systemd.firstboot=no
  '';

  etcFiles =
    {
      inherit init;
      system = system;
      "etc/hyperhive/mcp.json" = toJSON { mcpServers = valueOf "hyperhive.mcpServers" { }; };
      "etc/hyperhive/recipe" = recipe;
      "etc/systemd/system/default.target" = target;
      "etc/systemd/system/hive-access.path" = section "Path" [ "PathExists=/run/hive/access.wanted" ];
    }
    // listToAttrs (
      map (title: {
        name = "etc/systemd/system/${title}.service";
        value = unitText title services.${title};
      }) enabled
    );
  paths = attrNames etcFiles;

  # Of what starts in every Debian container, this is of no use here, and it takes half of the time.
  masked = [
    "systemd-journal-flush.service"
    "systemd-remount-fs.service"
    "systemd-sysctl.service"
    "systemd-sysusers.service"
    "systemd-tmpfiles-setup-dev.service"
    "systemd-tmpfiles-setup.service"
    "systemd-update-utmp.service"
  ];

  toplevel =
    assert checked;
    build
      (
        {
          name = "nixos-system-${name}";
          inherit masked packages;
        }
        // listToAttrs (
          genList (number: {
            name = "text_${toString number}";
            value = etcFiles.${elemAt paths number};
          }) (length paths)
        )
      )
      ''
        mkdir -p $out/etc/hyperhive $out/etc/systemd/system $out/sw/bin
        ${concatStringsSep "" (
          genList (number: ''
            printf %s "$text_${toString number}" >$out/${elemAt paths number}
          '') (length paths)
        )}
        chmod +x $out/init
        for unit in $masked; do ln -s /dev/null $out/etc/systemd/system/$unit; done
        for package in $packages; do ln -s $package/bin/* $out/sw/bin/; done
      '';
in
{
  config.system.build.toplevel = toplevel;
}
