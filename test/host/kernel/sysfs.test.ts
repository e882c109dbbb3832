import { posix } from 'node:path';
import test from 'ava';
import { type SysfsNode, sysfs } from '../../../host/kernel/sysfs.ts';
import { bootHost } from '../../../vmm/scenario/host.ts';

const numbers = (path: string): string => `511:${/\d+$/.exec(path)![0]}`;

function tree(devices: number): Map<string, SysfsNode> {
  const kernel = bootHost({ seed: 1, devices, ramBytes: 64 << 20, listeners: [] });
  const found = new Map<string, SysfsNode>();
  for (const [path, node] of sysfs(kernel, numbers)) {
    if (found.has(path)) throw new Error(`${path} twice`);
    found.set(path, node);
  }
  return found;
}

test('every link leads to something', (t) => {
  const nodes = tree(3);
  const directories = new Set<string>();
  for (const path of nodes.keys()) {
    for (let at = posix.dirname(path); at !== '/'; at = posix.dirname(at)) directories.add(at);
  }
  let links = 0;
  for (const [path, node] of nodes) {
    if (node.kind !== 'link') continue;
    const target = posix.join(posix.dirname(path), node.to);
    t.true(nodes.has(target) || directories.has(target), `${path} -> ${node.to}`);
    links += 1;
  }
  t.true(links > 20);
});

test('attributes of a function are those of its configuration space', (t) => {
  const nodes = tree(1);
  const home = '/sys/devices/pci0000:00/0000:00:01.0';
  const text = (name: string): unknown => {
    const node = nodes.get(`${home}/${name}`);
    return node?.kind === 'file' ? node.bytes : undefined;
  };
  t.is(text('vendor'), '0x8086\n');
  t.is(text('device'), '0x0b25\n');
  t.is(text('class'), '0x088000\n');
  t.is(text('vfio-dev/vfio0/dev'), '511:0\n');
  t.is(text('modalias'), 'pci:v00008086d00000B25sv00008086sd00000000bc08sc80i00\n');
  const config = text('config') as Uint8Array;
  t.deepEqual([...config.subarray(0, 4)], [0x86, 0x80, 0x25, 0x0b]);
  t.is(config.length, 4096);
  const lines = (text('resource') as string).trim().split('\n');
  t.is(lines.length, 7);
  const [start, last, flags] = lines[0]!.split(' ').map(Number);
  t.is(last! - start! + 1, 0x10000);
  t.is(flags! & 0x10_0200, 0x10_0200);
  t.is(lines[1], '0x0000000000000000 0x0000000000000000 0x0000000000000000');
});

test('a host without accelerators has the directories and nothing in them', (t) => {
  const nodes = [...tree(0).keys()];
  t.true(nodes.includes('/sys/bus/pci/devices'));
  t.deepEqual(
    nodes.filter((path) => /devices\/0000|iommu_groups\/|class\/[\w-]+\//.test(path)),
    [],
  );
});
