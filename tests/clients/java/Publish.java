import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.cloudevents.CloudEvent;
import io.cloudevents.core.builder.CloudEventBuilder;
import io.cloudevents.core.format.EventFormat;
import io.cloudevents.core.provider.EventFormatProvider;
import io.cloudevents.jackson.JsonCloudEventData;
import io.cloudevents.jackson.JsonFormat;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.impl.NatsMessage;
import java.io.File;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.OffsetDateTime;
import java.util.Base64;
import java.util.List;

/**
 * Publishes each event of tests/data/foreign-events.json with jnats and the CloudEvents SDK: structured, structured without
 * headers, and binary, each with an ack. Prints how many were acknowledged.
 */
final class Publish {
    private static final OffsetDateTime MOMENT = OffsetDateTime.parse("2026-11-24T03:00:00.25Z");

    private static CloudEvent event(String mode, JsonNode kind) throws Exception {
        var builder = CloudEventBuilder.v1()
                .withId("java-" + mode + "-" + kind.get("kind").asText())
                .withSource(URI.create("/shop/foreign"))
                .withType("com.shop.order.created")
                .withSubject("Straße 1, 100 %")
                .withTime(MOMENT)
                .withDataSchema(URI.create("https://example.com/schema"))
                .withExtension("region", "eu")
                .withExtension("count", 5)
                .withExtension("urgent", true)
                .withExtension("link", URI.create("https://example.com/a?b=c"))
                .withExtension("seen", MOMENT)
                .withExtension("blob", new byte[] {0, 1, 2});
        if (kind.has("datacontenttype")) {
            builder = builder.withDataContentType(kind.get("datacontenttype").asText());
        }
        if (kind.has("json")) {
            builder = builder.withData(JsonCloudEventData.wrap(kind.get("json")));
        } else if (kind.has("text")) {
            builder = builder.withData(kind.get("text").asText().getBytes(StandardCharsets.UTF_8));
        } else if (kind.has("base64")) {
            builder = builder.withData(Base64.getDecoder().decode(kind.get("base64").asText()));
        }
        return builder.build();
    }

    private static List<Message> messages(String subject, EventFormat format, JsonNode kind) throws Exception {
        var structured = new NatsMessageWriter(subject).writeStructured(event("structured", kind), format);
        var bare = NatsMessage.builder().subject(subject).data(format.serialize(event("bare", kind))).build();
        var binary = new NatsMessageWriter(subject).writeBinary(event("binary", kind));
        return List.of(structured, bare, binary);
    }

    public static void main(String[] arguments) throws Exception {
        var kinds = new ObjectMapper().readTree(new File(arguments[2]));
        var format = EventFormatProvider.getInstance().resolveFormat(JsonFormat.CONTENT_TYPE);
        int acknowledged = 0;
        try (var connection = Nats.connect(arguments[0])) {
            var jetstream = connection.jetStream();
            for (var kind : kinds) {
                for (var message : messages(arguments[1], format, kind)) {
                    jetstream.publish(message);
                    acknowledged++;
                }
            }
        }
        System.out.println(acknowledged);
    }
}
