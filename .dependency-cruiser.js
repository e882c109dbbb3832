// The house: which folder may import which (DESIGN's table). A zone may always import itself; every
// rule below is made from this one table.

const spec = '^devices/spec/';
const devices = '^devices/';
const traceCore = '^trace/([^/]+[.]ts$|catalogue/)';
const machine = '^host/machine/';
const uapi = '^host/uapi/';
const syscall = '^host/syscall[.]ts$';
const kernel = '^host/kernel/';
const everything = '^(devices|trace|host|vmm|guest|tui)/';

/** `may`: what a zone imports besides itself. No npm package and no Node module unless it says so. */
const zones = [
  { name: 'devices-spec', files: spec, may: [] },
  { name: 'devices', files: '^devices/(?!spec/)', may: [spec, traceCore] },
  { name: 'trace-core', files: traceCore, may: [] },
  {
    name: 'trace-stream',
    files: '^trace/stream/',
    may: ['^trace/'],
    npm: ['ws', 'msgpackr', 'zod'],
    node: true,
  },
  { name: 'trace-story', files: '^trace/story/', may: ['^trace/'] },
  { name: 'trace-wire', files: '^trace/wire/', may: ['^trace/'] },
  { name: 'trace-state', files: '^trace/state/', may: ['^trace/'] },
  {
    name: 'trace-record',
    files: '^trace/record/',
    may: ['^trace/'],
    npm: ['protobufjs', '@opentelemetry'],
    node: true,
  },
  { name: 'trace-viewer', files: '^trace/viewer/', may: ['^trace/'] },
  { name: 'host-machine', files: machine, may: [devices, traceCore] },
  { name: 'host-uapi', files: uapi, may: [] },
  { name: 'host-syscall', files: syscall, may: [uapi] },
  {
    // Drivers reach the silicon through registers and memory: of `devices/` they see the spec and
    // the interfaces at its top, and no model.
    name: 'host-kernel',
    files: kernel,
    may: [machine, uapi, syscall, spec, '^devices/[^/]+[.]ts$', traceCore],
  },
  {
    name: 'host-bridge',
    files: '^host/bridge/',
    may: [kernel, uapi, syscall, traceCore],
    node: true,
  },
  {
    name: 'vmm',
    files: '^vmm/(?!scenario/|cli/)',
    may: [uapi, syscall, devices, traceCore],
  },
  { name: 'guest', files: '^guest/', may: [spec, traceCore] },
  { name: 'vmm-scenario', files: '^vmm/scenario/', may: [everything] },
  {
    name: 'vmm-cli',
    files: '^vmm/cli/',
    may: [everything],
    npm: ['commander', 'ws', 'msgpackr', 'zod'],
    node: true,
  },
  { name: 'tui', files: '^tui/', may: ['^trace/'], npm: ['ink', 'react'] },
];

/** These may import everything. */
const free = ['^test/', '^[.]ci/', '^[^/]+$'];

const npmTypes = ['npm', 'npm-dev', 'npm-optional', 'npm-peer', 'npm-no-pkg', 'npm-unknown'];

function rulesOf({ name, files, may, npm = [], node = false }) {
  const rule = (suffix, comment, to) => ({
    name: `${name}-${suffix}`,
    comment: `${name} ${comment}`,
    severity: 'error',
    from: { path: files },
    to,
  });
  return [
    rule('imports', `may import itself and: ${may.join(' ') || 'nothing else'}`, {
      dependencyTypes: ['local'],
      pathNot: [files, ...may],
    }),
    rule('npm', `may import these packages: ${npm.join(' ') || 'none'}`, {
      dependencyTypes: npmTypes,
      pathNot: npm.map((pkg) => `^node_modules/(@types/)?${pkg}/`),
    }),
    ...(node ? [] : [rule('node', 'must not import Node modules', { dependencyTypes: ['core'] })]),
  ];
}

export default {
  forbidden: [
    ...zones.flatMap(rulesOf),
    {
      name: 'homeless',
      comment: 'every source file belongs to a zone',
      severity: 'error',
      from: { pathNot: [...zones.map(({ files }) => files), ...free, '^node_modules/'] },
      to: {},
    },
    {
      name: 'no-cycles',
      comment: 'a cycle hides which of two modules comes first',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'resolvable',
      comment: 'an import that leads nowhere is one that no rule has judged',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: '^node_modules/' },
    exclude: { path: '^coverage/' },
    // Type imports count: a layer must not know another's types either.
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
    },
  },
};
