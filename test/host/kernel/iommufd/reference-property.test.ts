/** Random programs for /dev/iommu with mock devices: the kernel does what the model does. */
import test from 'ava';
import { INTEL_LANGUAGE, intelStages } from './reference/intel-stage.ts';
import { MOCK_LANGUAGE, mockStages } from './reference/mock-stage.ts';
import { tryPrograms } from './reference/script.ts';

test('any program gets the results, translations and attachments of the model', (t) => {
  const stages = mockStages(true);
  t.notThrows(() => {
    tryPrograms(MOCK_LANGUAGE, stages, { failures: false, runs: 30, seed: 3 });
  });
});

test('what fails for want of memory leaves everything as it was', (t) => {
  const stages = mockStages(false);
  t.notThrows(() => {
    tryPrograms(MOCK_LANGUAGE, stages, { failures: true, runs: 30, seed: 4 });
  });
});

test('any program gets what the model says through the VT-d unit', (t) => {
  t.notThrows(() => {
    tryPrograms(INTEL_LANGUAGE, intelStages(), { failures: false, runs: 30, seed: 5 });
  });
});

test('what fails for want of memory leaves the unit as it was', (t) => {
  t.notThrows(() => {
    tryPrograms(INTEL_LANGUAGE, intelStages(), { failures: true, runs: 30, seed: 6 });
  });
});
