// Tests a replica with openapi-fetch and the types that openapi-typescript generates from openapi.json: register, heartbeat,
// discover, deregister.
//
//     node drive.js http://127.0.0.1:8080 NAMESPACE

import createClient from "openapi-fetch";
import type { components, paths } from "./rollcall.js";

type Instance = components["schemas"]["Instance"];
type Registration = components["schemas"]["Registration"];

const service = "generated";
const name = "generated-typescript";
const address = "10.0.0.7";

function check(holds: boolean, call: string, answer: unknown): asserts holds {
  if (!holds) {
    throw new Error(`${call}: unexpected answer ${JSON.stringify(answer)}`);
  }
}

async function drive(baseUrl: string, namespace: string): Promise<void> {
  const fetchInTime = (request: Request) => fetch(request, { signal: AbortSignal.timeout(30_000) });
  const client = createClient<paths>({ baseUrl, fetch: fetchInTime });
  const path = { namespace, name };
  const registration: Registration = {
    service,
    addresses: [address],
    ports: [{ name: "http", port: 8080 }],
    attributes: { team: "blue" },
    tags: ["typescript"],
  };

  const registered = await client.PUT("/v1/namespaces/{namespace}/instances/{name}", { params: { path }, body: registration });
  const instance = registered.data;
  check(registered.response.status === 201 && instance !== undefined, "register", registered.error);
  check(instance.name === name && instance.lease.mode === "Heartbeat", "register", instance);
  check(instance.lease.renewAfterSeconds === 10, "register", instance);

  const renewed = await client.PUT("/v1/namespaces/{namespace}/instances/{name}/heartbeat", {
    params: { path, query: { uid: instance.uid } },
    body: { health: "Warning", note: "the disk is nearly full" },
  });
  check(renewed.response.status === 200, "heartbeat", renewed);
  check((renewed.data?.expiresInMs ?? 0) >= 20_000, "heartbeat", renewed);

  const instances = async (): Promise<Instance[]> => {
    const found = await client.GET("/v1/namespaces/{namespace}/services/{service}", {
      params: { path: { namespace, service }, query: { tag: ["typescript"], health: "any", order: "weighted" } },
    });
    check(found.data?.service === service, "discover", found.error);
    return found.data.instances;
  };
  const found = await instances();
  const it = found.find((it) => it.name === name);
  check(it?.uid === instance.uid && it.addresses?.[0] === address, "discover", found);
  check(it.ports[0]?.port === 8080 && it.attributes.team === "blue", "discover", it);
  check(it.health === "Warning" && it.phase === "Warning", "discover", it);

  const refused = await client.PUT("/v1/namespaces/{namespace}/instances/{name}", {
    params: { path },
    body: { ...registration, hostname: "db.example.com" },
  });
  const problem = refused.error;
  check(refused.response.status === 422 && problem?.type === "tag:rollcall.dev,2026:bad-fields", "a registration with addresses and hostname", refused);
  check(problem.errors?.length === 1, "a registration with addresses and hostname", problem);

  const removed = await client.DELETE("/v1/namespaces/{namespace}/instances/{name}", {
    params: { path, query: { uid: instance.uid } },
  });
  check(removed.response.status === 204, "deregister", removed.error);
  const left = await instances();
  check(left.every((it) => it.name !== name), "discover", left);
}

const [url, namespace] = process.argv.slice(2);
if (url === undefined || namespace === undefined) {
  console.error("usage: node drive.js URL NAMESPACE");
  process.exit(2);
}
try {
  await drive(url, namespace);
  console.log("typescript: registered, renewed, discovered and deregistered");
} catch (error) {
  console.error("typescript:", error instanceof Error ? error.message : error);
  process.exit(1);
}
