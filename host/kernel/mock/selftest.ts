/** IOMMU_TEST_CMD: what a kernel built with CONFIG_IOMMUFD_TEST has in slot 0xa0. */
import type { Task } from '../../syscall.ts';
import * as test from '../../uapi/iommufd-test.ts';
import { Errno } from '../errno.ts';
import type { Command, Commands, Variant } from '../iommufd/commands.ts';
import { COST } from '../iommufd/cost.ts';
import type { Kernel } from '../kernel.ts';
import {
  accessPages,
  accessReplaceIoas,
  accessRw,
  createAccessFile,
  destroyAccessPages,
} from './access-ops.ts';
import {
  addReserved,
  dirty,
  mdCheckIotlb,
  mdCheckMap,
  mdCheckRefs,
  setTempMemoryLimit,
} from './check-ops.ts';
import type { Operation, RawCommand } from './command.ts';
import { operation } from './command.ts';
import {
  devCheckCache,
  mockDomain,
  mockDomainReplace,
  pasidAttach,
  pasidCheckHwpt,
  pasidDetach,
  pasidReplace,
  triggerIopf,
  triggerVevent,
} from './device-ops.ts';
import { dmabufGet, dmabufRevoke } from './dma-buf-ops.ts';
import { MockDriver } from './driver.ts';

const OPERATIONS: ReadonlyMap<number, Operation> = new Map([
  [test.IOMMU_TEST_OP_ADD_RESERVED, operation(test.iommu_test_add_reserved, addReserved)],
  [test.IOMMU_TEST_OP_MOCK_DOMAIN, operation(test.iommu_test_mock_domain_flags, mockDomain)],
  [test.IOMMU_TEST_OP_MD_CHECK_MAP, operation(test.iommu_test_check_map, mdCheckMap)],
  [test.IOMMU_TEST_OP_MD_CHECK_REFS, operation(test.iommu_test_check_refs, mdCheckRefs)],
  [test.IOMMU_TEST_OP_CREATE_ACCESS, operation(test.iommu_test_create_access, createAccessFile)],
  [
    test.IOMMU_TEST_OP_DESTROY_ACCESS_PAGES,
    operation(test.iommu_test_destroy_access_pages, destroyAccessPages),
  ],
  [test.IOMMU_TEST_OP_ACCESS_PAGES, operation(test.iommu_test_access_pages, accessPages)],
  [test.IOMMU_TEST_OP_ACCESS_RW, operation(test.iommu_test_access_rw, accessRw)],
  [
    test.IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT,
    operation(test.iommu_test_memory_limit, setTempMemoryLimit),
  ],
  [
    test.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE,
    operation(test.iommu_test_mock_domain_replace, mockDomainReplace),
  ],
  [
    test.IOMMU_TEST_OP_ACCESS_REPLACE_IOAS,
    operation(test.iommu_test_access_replace_ioas, accessReplaceIoas),
  ],
  [test.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS, operation(test.iommu_test_mock_domain_flags, mockDomain)],
  [test.IOMMU_TEST_OP_DIRTY, operation(test.iommu_test_dirty, dirty)],
  [test.IOMMU_TEST_OP_MD_CHECK_IOTLB, operation(test.iommu_test_check_iotlb, mdCheckIotlb)],
  [test.IOMMU_TEST_OP_TRIGGER_IOPF, operation(test.iommu_test_trigger_iopf, triggerIopf)],
  [test.IOMMU_TEST_OP_DEV_CHECK_CACHE, operation(test.iommu_test_check_dev_cache, devCheckCache)],
  [test.IOMMU_TEST_OP_TRIGGER_VEVENT, operation(test.iommu_test_trigger_vevent, triggerVevent)],
  [test.IOMMU_TEST_OP_PASID_ATTACH, operation(test.iommu_test_pasid_attach, pasidAttach)],
  [test.IOMMU_TEST_OP_PASID_REPLACE, operation(test.iommu_test_pasid_replace, pasidReplace)],
  [test.IOMMU_TEST_OP_PASID_DETACH, operation(test.iommu_test_pasid_detach, pasidDetach)],
  [test.IOMMU_TEST_OP_PASID_CHECK_HWPT, operation(test.iommu_test_pasid_check, pasidCheckHwpt)],
  [test.IOMMU_TEST_OP_DMABUF_GET, operation(test.iommu_test_dmabuf_get, dmabufGet)],
  [test.IOMMU_TEST_OP_DMABUF_REVOKE, operation(test.iommu_test_dmabuf_revoke, dmabufRevoke)],
]);

const OP_PREFIX = 'IOMMU_TEST_OP_';
const OP_NAMES: ReadonlyMap<unknown, string> = new Map(
  Object.entries(test)
    .filter(([name]) => name.startsWith(OP_PREFIX))
    .map(([name, op]) => [op, name.slice(OP_PREFIX.length)]),
);

/** The command, for the table of `/dev/iommu`, and the mock driver that its operations share. */
export function selftestCommands(kernel: Kernel): Commands {
  const driver = new MockDriver(kernel);
  const run: Command['run'] = (ctx, caller, bytes, address, userSize) =>
    runOperation({ ctx, caller, bytes, address, userSize, driver });
  return new Map([[test.IOMMU_TEST_CMD, { struct: test.iommu_test_cmd, variant, run }]]);
}

function variant(bytes: Uint8Array): Variant | undefined {
  const { op } = readHead(bytes);
  const found = OPERATIONS.get(op);
  if (found === undefined) return undefined;
  return { name: `IOMMU_TEST_CMD(${OP_NAMES.get(op)!})`, struct: found.struct };
}

function readHead({ buffer, byteOffset }: Uint8Array): { readonly op: number } {
  return test.iommu_test_cmd.read(new DataView(buffer, byteOffset));
}

/** @throws Errno EOPNOTSUPP: no such operation; what the operation says */
function* runOperation(raw: RawCommand): Task<number | undefined> {
  const { op } = readHead(raw.bytes);
  const found = OPERATIONS.get(op);
  if (found === undefined) throw new Errno('EOPNOTSUPP', `test operation ${op}`);
  yield COST.IOCTL;
  return (yield* found.run(raw)) ?? undefined;
}
