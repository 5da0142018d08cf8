// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// One event of every odd shape that an ABI can hold.
///
/// Each event has a function `emit<Event>` that emits it with the given arguments, so that a caller who can make random
/// values for ABI types can make every event here without knowing any of them.
contract Zoo {
    enum Mood {
        Calm,
        Hungry,
        Wild
    }

    type Weight is uint96;

    struct Point {
        int128 x;
        int128 y;
    }

    struct Animal {
        string name;
        Weight weight;
        Point home;
        Point[] path;
        uint8[3] marks;
        bytes4 tag;
    }

    error Refused(address asker, string reason);

    // Elementary types, dynamic types, every width.
    event Nothing();
    event Texts(string text, bytes data);
    event Unsigned(uint8 tiny, uint16 small, uint32 middle, uint48 time, uint64 large, uint128 huge, uint256 full);
    event Signed(int8 tiny, int16 small, int24 tick, int32 middle, int64 large, int128 huge, int256 full);
    event Words(bool yes, bytes1 letter, bytes20 digest, bytes32 word, address who, Mood mood, Weight weight);
    event Callback(function(uint256) external returns (bool) callback, uint256 argument);

    // Indexed arguments: values stay readable, dynamic ones leave only their hash; order mixed with the data's.
    event Marked(bool indexed yes, bytes4 indexed tag, int64 indexed number, uint256 rest);
    event Hashed(string indexed text, bytes indexed data, uint256[] indexed numbers);
    event HashedStructs(Point indexed point, Animal indexed animal, uint256[2] indexed pair, string text);
    event Mixed(uint256 first, address indexed second, string third, bytes32 indexed fourth, uint8[] fifth);

    // Tuples and arrays.
    event Seen(address indexed keeper, Animal animal);
    event Herd(Animal[] animals, Point[2] corners);
    event Lists(uint256[] numbers, address[] addresses, bytes32[2] pair, bool[] flags, int64[] depths);
    event TextLists(string[] texts, bytes[] blobs, string[2] two);
    event Grids(uint256[][] ragged, uint8[2][3] grid, uint16[2][] rows, uint16[][2] columns);

    // No topic of its own.
    event Ghost(address indexed who, uint256 value) anonymous;

    // One name, three events.
    event Fed(uint256 amount);
    event Fed(uint256 amount, string food);
    event Fed(address indexed keeper, uint256 amount);

    // Names that are none, that are SQL's or Python's, that meet others, that are too long.
    event Unnamed(address indexed, uint256, bytes, address indexed);
    event Keywords(address indexed from, address indexed to, uint256 order, uint256 limit, bool select, string table);
    event Group(uint256 class, uint256 lambda, uint256 where, bytes32 user, string desc, uint256 end);
    event Colliding(uint256 block_number, uint256 blockNumber, bytes32 tx_hash, address contract_address, uint256 id);
    event Twin(uint256 valueIn, uint256 value_in, uint256 ValueIn);
    event twin(uint256 value);
    event Dollar$(uint256 $price, uint256 _under, uint256 __);
    event ThisEventHasANameThatIsLongerThanTheSixtyThreeBytesThatPostgresAllowsForTheNameOfATableOrOfAColumn(
        uint256 thisArgumentHasANameThatIsLongerThanTheSixtyThreeBytesThatPostgresAllowsAndItEndsWithTheNumberOne,
        uint256 thisArgumentHasANameThatIsLongerThanTheSixtyThreeBytesThatPostgresAllowsAndItEndsWithTheNumberTwo
    );

    function emitNothing() external {
        emit Nothing();
    }

    function emitTexts(string calldata text, bytes calldata data) external {
        emit Texts(text, data);
    }

    function emitUnsigned(uint8 a, uint16 b, uint32 c, uint48 d, uint64 e, uint128 f, uint256 g) external {
        emit Unsigned(a, b, c, d, e, f, g);
    }

    function emitSigned(int8 a, int16 b, int24 c, int32 d, int64 e, int128 f, int256 g) external {
        emit Signed(a, b, c, d, e, f, g);
    }

    function emitWords(bool a, bytes1 b, bytes20 c, bytes32 d, address e, uint8 mood, Weight weight) external {
        emit Words(a, b, c, d, e, Mood(mood % 3), weight);
    }

    function emitCallback(uint256 argument) external {
        emit Callback(this.isEven, argument);
    }

    function emitMarked(bool yes, bytes4 tag, int64 number, uint256 rest) external {
        emit Marked(yes, tag, number, rest);
    }

    function emitHashed(string calldata text, bytes calldata data, uint256[] calldata numbers) external {
        emit Hashed(text, data, numbers);
    }

    function emitHashedStructs(Point memory a, Animal memory b, uint256[2] memory c, string calldata d) external {
        emit HashedStructs(a, b, c, d);
    }

    function emitMixed(uint256 a, address b, string calldata c, bytes32 d, uint8[] calldata e) external {
        emit Mixed(a, b, c, d, e);
    }

    function emitSeen(Animal calldata animal) external {
        emit Seen(msg.sender, animal);
    }

    function emitHerd(Animal[] calldata animals, Point[2] calldata corners) external {
        emit Herd(animals, corners);
    }

    function emitLists(
        uint256[] calldata a,
        address[] calldata b,
        bytes32[2] calldata c,
        bool[] calldata d,
        int64[] calldata e
    ) external {
        emit Lists(a, b, c, d, e);
    }

    function emitTextLists(string[] calldata texts, bytes[] calldata blobs, string[2] calldata two) external {
        emit TextLists(texts, blobs, two);
    }

    function emitGrids(
        uint256[][] calldata a,
        uint8[2][3] calldata b,
        uint16[2][] calldata c,
        uint16[][2] calldata d
    ) external {
        emit Grids(a, b, c, d);
    }

    function emitGhost(uint256 value) external {
        emit Ghost(msg.sender, value);
    }

    function emitFed(uint256 amount) external {
        emit Fed(amount);
    }

    function emitFed(uint256 amount, string calldata food) external {
        emit Fed(amount, food);
    }

    function emitFed(address keeper, uint256 amount) external {
        emit Fed(keeper, amount);
    }

    function emitUnnamed(address a, uint256 b, bytes calldata c, address d) external {
        emit Unnamed(a, b, c, d);
    }

    function emitKeywords(address a, address b, uint256 c, uint256 d, bool e, string calldata f) external {
        emit Keywords(a, b, c, d, e, f);
    }

    function emitGroup(uint256 a, uint256 b, uint256 c, bytes32 d, string calldata e, uint256 f) external {
        emit Group(a, b, c, d, e, f);
    }

    function emitColliding(uint256 a, uint256 b, bytes32 c, address d, uint256 e) external {
        emit Colliding(a, b, c, d, e);
    }

    function emitTwin(uint256 a, uint256 b, uint256 c) external {
        emit Twin(a, b, c);
    }

    function emittwin(uint256 a) external {
        emit twin(a);
    }

    function emitDollar$(uint256 a, uint256 b, uint256 c) external {
        emit Dollar$(a, b, c);
    }

    function emitLongNames(uint256 a, uint256 b) external {
        emit ThisEventHasANameThatIsLongerThanTheSixtyThreeBytesThatPostgresAllowsForTheNameOfATableOrOfAColumn(a, b);
    }

    /// Emits, then reverts: no log may be seen of it anywhere.
    function refuse(string calldata reason) external {
        emit Fed(1);
        revert Refused(msg.sender, reason);
    }

    /// A log of any shape, also one that belies its topic: up to four topics and whatever data.
    function rawLog(bytes32[] calldata topics, bytes calldata data) external {
        require(topics.length <= 4, "a log has four topics at most");
        bytes memory body = data;
        bytes32[4] memory t;
        for (uint256 i = 0; i < topics.length; i++) t[i] = topics[i];
        assembly {
            let start := add(body, 32)
            let size := mload(body)
            switch topics.length
            case 0 { log0(start, size) }
            case 1 { log1(start, size, mload(t)) }
            case 2 { log2(start, size, mload(t), mload(add(t, 32))) }
            case 3 { log3(start, size, mload(t), mload(add(t, 32)), mload(add(t, 64))) }
            default { log4(start, size, mload(t), mload(add(t, 32)), mload(add(t, 64)), mload(add(t, 96))) }
        }
    }

    function isEven(uint256 number) external pure returns (bool) {
        return number % 2 == 0;
    }
}
