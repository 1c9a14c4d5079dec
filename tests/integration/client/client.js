// SPDX-License-Identifier: Apache-2.0
// A gRPC client that shares no code with Sluice: reflection, health, submit, watch.
// Usage: node client.js MASTER PROTO_DIR SITE_A PATH_A SITE_B PATH_B; prints one JSON object.
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const path = require('path');
const fs = require('fs');

const [master, protos, siteA, pathA, siteB, pathB] = process.argv.slice(2);
const options = { keepCase: true, longs: String, enums: String, defaults: true, includeDirs: [protos, '/usr/share/grpc-proto'] };
const load = (file) => grpc.loadPackageDefinition(loader.loadSync(file, options));
const creds = grpc.credentials.createInsecure();
const unary = (client, method, request) =>
  new Promise((resolve, reject) => client[method](request, { deadline: Date.now() + 300000 }, (e, r) => (e ? reject(e) : resolve(r))));

async function reflect(version) {
  const service = load(`grpc/reflection/${version}/reflection.proto`).grpc.reflection[version].ServerReflection;
  const call = new service(master, creds).ServerReflectionInfo();
  const ask = (request) => new Promise((resolve, reject) => {
    call.once('data', resolve);
    call.once('error', reject);
    call.write(request);
  });
  const list = await ask({ list_services: '' });
  const file = await ask({ file_containing_symbol: 'sluice.v1.FlowService' });
  call.end();
  return { services: list.list_services_response.service.map((s) => s.name), files: file.file_descriptor_response.file_descriptor_proto.length };
}

(async () => {
  const out = { v1: await reflect('v1'), v1alpha: await reflect('v1alpha') };
  const health = load('grpc/health/v1/health.proto').grpc.health.v1.Health;
  out.health = (await unary(new health(master, creds), 'Check', { service: '' })).status;
  const flows = new (load(path.join(protos, 'sluice/v1/flow_service.proto')).sluice.v1.FlowService)(master, creds);
  const place = (site, p) => ({ posix: { site, path: Buffer.from(p) } });
  const submitted = await unary(flows, 'SubmitFlow', { request_id: 'from-js', spec: { source: place(siteA, pathA), destination: place(siteB, pathB) } });
  out.flow = submitted.flow_id;
  out.events = await new Promise((resolve, reject) => {
    const seen = [];
    const call = flows.WatchFlow({ flow_id: submitted.flow_id, from_seq: 0 });
    call.on('data', (e) => seen.push({ seq: Number(e.seq), event: e.event, state: e.flow && e.flow.state }));
    call.on('end', () => resolve(seen));
    call.on('error', reject);
  });
  try {
    await unary(flows, 'GetFlow', { flow_id: 'nothing' });
  } catch (e) {
    out.missing = { code: e.code, details: e.details, trailer: e.metadata.get('sluice-failure-bin').length };
  }
  try {
    await unary(flows, 'SubmitFlow', { spec: { source: place(siteA, pathA), destination: place(siteB, pathB), run_as: 'somebody' } });
  } catch (e) {
    out.unimplemented = { code: e.code, details: e.details };
  }
  fs.writeSync(1, JSON.stringify(out) + '\n');
  process.exit(0);
})().catch((e) => {
  console.error(e);
  process.exit(1);
});
