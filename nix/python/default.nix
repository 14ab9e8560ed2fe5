# Python packages that nixos-25.11 does not have, or only in a version that is too old: version 2 of the MCP SDK with
# its dependencies. They stay out of nixpkgs' own set, so that nothing else is rebuilt because of them. The files and
# their hashes are those of PyPI.
{ python3Packages }:

let
  inherit (python3Packages) buildPythonPackage fetchPypi;

  # A package of pure Python, as its authors built it. Wheels are named with underscores.
  wheel =
    {
      pname,
      version,
      hash,
      dependencies,
      relaxed ? [ ],
    }:
    let
      module = builtins.replaceStrings [ "-" ] [ "_" ] pname;
    in
    buildPythonPackage {
      inherit pname version dependencies;
      format = "wheel";
      src = fetchPypi {
        inherit version hash;
        pname = module;
        format = "wheel";
        dist = "py3";
        python = "py3";
      };
      pythonRelaxDeps = relaxed;
      pythonImportsCheck = [ module ];
    };
in
rec {
  httpcore2 = wheel {
    pname = "httpcore2";
    version = "2.16.2";
    hash = "sha256-FgUa4qQvd2AHVD8y3pNJoxeyPSy7ThRWtLrA6IuHQZo=";
    dependencies = [
      python3Packages.anyio
      python3Packages.h11
      python3Packages.truststore
    ];
    relaxed = [ "truststore" ]; # asks for 0.10 only because its authors tested with it
  };

  httpx2 = wheel {
    pname = "httpx2";
    version = "2.16.2";
    hash = "sha256-8FwTqt5MRdvxyQYGR6EFjwrK1iOY+tludBJp7bM9RvU=";
    dependencies = [
      httpcore2
      python3Packages.anyio
      python3Packages.idna
      python3Packages.truststore
      python3Packages.typing-extensions
    ];
    # The hive's tools are served on stdin and stdout: no name is looked up with it.
    relaxed = [
      "anyio"
      "idna"
      "truststore"
    ];
  };

  mcp-types = wheel {
    pname = "mcp-types";
    version = "2.3.0";
    hash = "sha256-lo79va7fqwatrkDTeKNDlfEJDFkh1L48nN4oOq922R0=";
    dependencies = [
      python3Packages.pydantic
      python3Packages.typing-extensions
    ];
    # Asks for 2.12, which its client needs. With 2.11 the hive's tools, which are a server, pass their tests, too.
    relaxed = [ "pydantic" ];
  };

  mcp = wheel {
    pname = "mcp";
    version = "2.3.0";
    hash = "sha256-3QxEwInRZFPorjGjh3oAVNeiMUyqqB9eBUG5sXNLI3c=";
    dependencies = [
      httpx2
      mcp-types
      python3Packages.anyio
      python3Packages.jsonschema
      python3Packages.opentelemetry-api
      python3Packages.pydantic
      python3Packages.pyjwt
      python3Packages.python-multipart
      python3Packages.sse-starlette
      python3Packages.starlette
      python3Packages.typing-extensions
      python3Packages.typing-inspection
      python3Packages.uvicorn
    ]
    ++ python3Packages.pyjwt.optional-dependencies.crypto;
    # Pydantic as above; the others only for its servers and clients over HTTP, which the hive does not use.
    relaxed = [
      "opentelemetry-api"
      "pydantic"
      "sse-starlette"
      "starlette"
      "uvicorn"
    ];
  };}
