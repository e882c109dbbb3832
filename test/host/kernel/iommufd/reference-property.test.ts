/** Random programs for /dev/iommu with mock devices: the kernel does what the model does. */
import test from 'ava';
import { MOCK_LANGUAGE, mockStages } from './reference/mock-stage.ts';
import { tryPrograms } from './reference/script.ts';

test('any program gets the results, translations and attachments of the model', (t) => {
  const stages = mockStages(true);
  t.notThrows(() => {
    tryPrograms(MOCK_LANGUAGE, stages, { failures: false, runs: 200, seed: 3 });
  });
});

test('what fails for want of memory leaves everything as it was', (t) => {
  const stages = mockStages(false);
  t.notThrows(() => {
    tryPrograms(MOCK_LANGUAGE, stages, { failures: true, runs: 200, seed: 4 });
  });
});
