import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test from 'ava';
import { Refusal } from '../../../vmm/cli/fail.ts';
import { LineFile, OutputFile, readInput, sameFile } from '../../../vmm/cli/files.ts';

const MODULE = pathToFileURL(join(import.meta.dirname, '../../../vmm/cli/files.ts')).href;

/** A folder of its own, gone afterwards. */
function inFolder(body: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'vsva-files-'));
  try {
    body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const MIB = 2 ** 20;

const accept = (): void => undefined;

const refusal = (message: string) => ({ instanceOf: Refusal, message });

const bytes = Uint8Array.of(0, 1, 2, 253, 254, 255);

test('an input is read whole', (t) => {
  inFolder((folder) => {
    const path = join(folder, 'in');
    writeFileSync(path, bytes);
    t.deepEqual(new Uint8Array(readInput(path, MIB, accept)), bytes);
  });
});

test('an input that cannot be read is refused with the path and why', (t) => {
  inFolder((folder) => {
    const missing = join(folder, 'missing');
    const error = t.throws(
      () => readInput(missing, MIB, accept),
      refusal(`cannot read ${missing}: no such file or directory`),
    );
    t.is(error.exitCode, 1);
    t.throws(
      () => readInput(folder, MIB, accept),
      refusal(`cannot read ${folder}: it is a directory`),
    );
  });
});

test('an output is refused at once where it cannot be written', (t) => {
  inFolder((folder) => {
    const file = join(folder, 'file');
    writeFileSync(file, 'old');
    for (const [path, why] of [
      [join(folder, 'no', 'out'), 'no such file or directory'],
      [folder, 'it is a directory'],
      [join(folder, 'new/'), 'no such file or directory'],
      [join(file, 'out'), 'a part of the path is not a directory'],
      [join(folder, 'x'.repeat(300)), 'the name is too long'],
    ] as const) {
      t.throws(() => new OutputFile(path), refusal(`cannot write ${path}: ${why}`));
    }
    t.throws(() => new OutputFile(''), refusal("cannot write '': no such file or directory"));
    t.deepEqual(readdirSync(folder), ['file']);
    t.is(readFileSync(file, 'utf8'), 'old');
  });
});

test('what is at the path is untouched until commit, and then replaced whole', (t) => {
  inFolder((folder) => {
    const path = join(folder, 'out');
    writeFileSync(path, 'old and longer than the new one', { mode: 0o640 });
    const output = new OutputFile(path);
    t.is(readFileSync(path, 'utf8'), 'old and longer than the new one');
    output.commit(bytes);
    t.deepEqual(new Uint8Array(readFileSync(path)), bytes);
    t.is(statSync(path).mode & 0o777, 0o640);
    output.abandon();
    t.deepEqual(readdirSync(folder), ['out']);
    t.deepEqual(new Uint8Array(readFileSync(path)), bytes, 'abandoned after commit is kept');
  });
});

test('a new output is there only after commit', (t) => {
  inFolder((folder) => {
    const path = join(folder, 'out');
    const output = new OutputFile(path);
    t.false(existsSync(path));
    output.commit(new Uint8Array(0));
    t.is(statSync(path).size, 0);
    t.deepEqual(readdirSync(folder), ['out']);
  });
});

test('abandoned, it leaves nothing new and everything old', (t) => {
  inFolder((folder) => {
    const old = join(folder, 'old');
    writeFileSync(old, 'old');
    for (const path of [old, join(folder, 'new')]) {
      const output = new OutputFile(path);
      output.abandon();
      output.abandon();
    }
    t.deepEqual(readdirSync(folder), ['old']);
    t.is(readFileSync(old, 'utf8'), 'old');
  });
});

test('a process that just ends leaves nothing behind either', (t) => {
  inFolder((folder) => {
    const script =
      `import { OutputFile } from ${JSON.stringify(MODULE)};` +
      `new OutputFile(${JSON.stringify(join(folder, 'out'))}); process.exit(3);`;
    const { status } = spawnSync(process.execPath, ['--input-type=module', '-e', script]);
    t.is(status, 3);
    t.deepEqual(readdirSync(folder), []);
  });
});

test('a symbolic link stays one, and the file behind it is written', (t) => {
  inFolder((folder) => {
    mkdirSync(join(folder, 'real'));
    const target = join(folder, 'real', 'target');
    const link = join(folder, 'link');
    writeFileSync(target, 'old');
    symlinkSync(target, link);
    new OutputFile(link).commit(bytes);
    t.true(lstatSync(link).isSymbolicLink());
    t.deepEqual(new Uint8Array(readFileSync(target)), bytes);
    t.deepEqual(readdirSync(folder), ['link', 'real']);
  });
});

// For root every file is writable, so this needs somebody else.
const asUser = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};

test('a file that is write-protected is refused, not replaced', (t) => {
  inFolder((folder) => {
    const path = join(folder, 'out');
    const module = join(folder, 'copy');
    chmodSync(folder, 0o777);
    writeFileSync(path, 'old');
    chmodSync(path, 0o444);
    // The user may not be allowed to read where the source lies.
    mkdirSync(module);
    for (const name of ['files.ts', 'fail.ts']) {
      const source = readFileSync(join(import.meta.dirname, '../../../vmm/cli', name));
      writeFileSync(join(module, name), source);
    }
    const script =
      `import { OutputFile } from ${JSON.stringify(pathToFileURL(join(module, 'files.ts')).href)};` +
      `try { new OutputFile(${JSON.stringify(path)}); } catch (e) { console.log(e.message); }`;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      cwd: folder,
      ...asUser,
    });
    t.is(stdout, `cannot write ${path}: permission denied\n`, stderr);
    t.is(readFileSync(path, 'utf8'), 'old');
  });
});

test('a device is written in place', (t) => {
  const output = new OutputFile('/dev/null');
  output.commit(bytes);
  output.abandon();
  t.true(statSync('/dev/null').isCharacterDevice());
  t.throws(() => {
    new OutputFile('/dev/full').commit(bytes);
  }, refusal('cannot write /dev/full: no space left on the device'));
});

test('lines are written in order, each ended', (t) => {
  inFolder((folder) => {
    const path = join(folder, 'lines');
    writeFileSync(path, 'what was there before');
    const file = new LineFile(path);
    file.write('one');
    file.write('zwei \u00d7');
    t.is(readFileSync(path, 'utf8'), '');
    file.flush();
    t.is(readFileSync(path, 'utf8'), 'one\nzwei \u00d7\n');
    file.write('');
    file.flush();
    file.flush();
    file.write('three');
    file.close();
    t.is(readFileSync(path, 'utf8'), 'one\nzwei \u00d7\n\nthree\n');
  });
});

test('many lines come through whole', (t) => {
  inFolder((folder) => {
    const path = join(folder, 'lines');
    const file = new LineFile(path);
    const lines = Array.from({ length: 50_000 }, (_, i) => `line ${i} ${'.'.repeat(i % 97)}`);
    for (const [i, line] of lines.entries()) {
      file.write(line);
      if (i % 7000 === 0) file.flush();
    }
    file.close();
    t.true(readFileSync(path, 'utf8') === `${lines.join('\n')}\n`);
  });
});

test('a line file is refused where it cannot be opened; a full disk is told, and only once', (t) => {
  inFolder((folder) => {
    const path = join(folder, 'no', 'lines');
    t.throws(() => new LineFile(path), refusal(`cannot write ${path}: no such file or directory`));
  });
  const file = new LineFile('/dev/full');
  file.write('x');
  const full = refusal('cannot write /dev/full: no space left on the device');
  t.throws(() => {
    file.flush();
  }, full);
  t.notThrows(() => {
    file.close();
  });
});

test('two names of one file are known as one; two files or a device are not', (t) => {
  inFolder((folder) => {
    const [a, b, link] = ['a', 'b', 'link'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    t.true(sameFile(a, join(folder, '.', 'x', '..', 'a')), 'neither is there yet');
    t.false(sameFile(a, b));
    writeFileSync(a, '');
    t.false(sameFile(a, b));
    writeFileSync(b, '');
    symlinkSync(a, link);
    t.false(sameFile(a, b));
    t.true(sameFile(a, a));
    t.true(sameFile(a, link));
    t.false(sameFile('/dev/null', '/dev/null'));
  });
});

test('what has no end is read no further than allowed, and refused by its size', (t) => {
  const seen: number[] = [];
  const check = (bytes: number): void => {
    seen.push(bytes);
    if (bytes > MIB) throw new Refusal(2, `${bytes} bytes are too many`);
  };
  t.throws(() => readInput('/dev/zero', MIB, check), { instanceOf: Refusal, message: /too many/ });
  t.deepEqual(seen, [2 * MIB]);
});

test('a file is refused by its size before it is read', (t) => {
  inFolder((folder) => {
    const path = join(folder, 'sparse');
    closeSync(openSync(path, 'w'));
    truncateSync(path, 2 ** 40);
    const refuse = (bytes: number): void => {
      throw new Refusal(2, `${bytes}`);
    };
    t.throws(() => readInput(path, MIB, refuse), { message: `${2 ** 40}` });
  });
});
