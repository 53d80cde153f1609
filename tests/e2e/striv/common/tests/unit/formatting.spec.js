const assert = require('assert')
const { duration } = require('../../src/formatting')

describe('duration', () => {
  it('splits seconds into minutes', () => assert.strictEqual(duration(125), '2 min 5 s'))
  it('shows no minutes as zero', () => assert.strictEqual(duration(7), '0 min 7 s'))
})
