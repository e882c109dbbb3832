import protobuf from 'protobufjs';

/**
 * The part of Perfetto's trace format that is used, with the field numbers of
 * protos/perfetto/trace/{trace,trace_packet,interned_data/interned_data}.proto and of
 * protos/perfetto/trace/track_event/.
 */
const SCHEMA = `
syntax = "proto2";
package perfetto.protos;
message Trace { repeated TracePacket packet = 1; }
message TracePacket {
  optional uint64 timestamp = 8;
  optional uint32 trusted_packet_sequence_id = 10;
  optional TrackEvent track_event = 11;
  optional InternedData interned_data = 12;
  optional uint32 sequence_flags = 13;
  optional TrackDescriptor track_descriptor = 60;
}
message TrackDescriptor {
  optional uint64 uuid = 1;
  optional string name = 2;
  optional ProcessDescriptor process = 3;
  optional uint64 parent_uuid = 5;
  optional CounterDescriptor counter = 8;
}
message ProcessDescriptor { optional int32 pid = 1; optional string process_name = 6; }
message CounterDescriptor { optional int32 unit = 3; optional string unit_name = 6; }
message TrackEvent {
  repeated uint64 category_iids = 3;
  repeated DebugAnnotation debug_annotations = 4;
  optional int32 type = 9;
  optional uint64 name_iid = 10;
  optional uint64 track_uuid = 11;
  optional int64 counter_value = 30;
  optional double double_counter_value = 44;
  repeated fixed64 flow_ids = 47;
  repeated fixed64 terminating_flow_ids = 48;
}
message DebugAnnotation {
  optional uint64 name_iid = 1;
  optional int64 int_value = 4;
  optional string string_value = 6;
  optional uint64 pointer_value = 7;
}
message InternedData {
  repeated InternedName event_categories = 1;
  repeated InternedName event_names = 2;
  repeated InternedName debug_annotation_names = 3;
}
message InternedName { optional uint64 iid = 1; optional string name = 2; }
`;

const TRACE = protobuf.parse(SCHEMA, { keepCase: true }).root.lookupType('perfetto.protos.Trace');

export const EVENT_TYPE = { BEGIN: 1, END: 2, INSTANT: 3, COUNTER: 4 } as const;

export const COUNTER_UNIT = { COUNT: 2 } as const;

export const SEQUENCE = { CLEARED: 1, NEEDS_STATE: 2 } as const;

export interface Named {
  readonly iid: number;
  readonly name: string;
}

export interface Annotation {
  readonly name_iid: number;
  readonly int_value?: number;
  readonly string_value?: string;
  readonly pointer_value?: number | bigint;
}

export interface TrackEvent {
  readonly type: number;
  readonly track_uuid: number;
  readonly name_iid?: number;
  readonly category_iids?: readonly number[];
  readonly debug_annotations?: readonly Annotation[];
  readonly flow_ids?: readonly number[];
  readonly terminating_flow_ids?: readonly number[];
  readonly counter_value?: number;
  readonly double_counter_value?: number;
}

export interface TracePacket {
  readonly timestamp?: number;
  readonly trusted_packet_sequence_id?: number;
  readonly sequence_flags?: number;
  readonly track_event?: TrackEvent;
  readonly interned_data?: {
    readonly event_categories: readonly Named[];
    readonly event_names: readonly Named[];
    readonly debug_annotation_names: readonly Named[];
  };
  readonly track_descriptor?: {
    readonly uuid: number;
    readonly name?: string;
    readonly parent_uuid?: number;
    readonly process?: { readonly pid: number; readonly process_name: string };
    readonly counter?: { readonly unit?: number; readonly unit_name?: string };
  };
}

/** Packets as part of a trace: parts one after the other are one trace. */
export const encodePackets = (packets: readonly TracePacket[]): Uint8Array =>
  TRACE.encode(TRACE.fromObject({ packet: packets })).finish();
